"""The contracts: one module for each kind of part, and one for the session they meet in."""
