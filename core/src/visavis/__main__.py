"""``python -m visavis``: the command line."""

from visavis.cli import program

if __name__ == "__main__":
    program()
