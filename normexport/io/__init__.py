"""Reading files that nobody vouches for: every byte is checked against one strict reading before it is used."""
