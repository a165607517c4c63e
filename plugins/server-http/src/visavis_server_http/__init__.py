"""The Avatar Server of visavis: sessions over HTTP, in its own words and in those of other avatar servers."""
