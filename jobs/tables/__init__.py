"""Tables in the formats that astronomers use: read, linked, written."""
