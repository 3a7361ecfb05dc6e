"""Long traces become short, structured ones: the data of length-aligned SFT."""
