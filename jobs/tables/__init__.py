"""Tables in astronomical formats: reading, links, writing."""
