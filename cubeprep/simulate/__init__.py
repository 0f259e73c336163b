"""A simulated survey, written as true MaNGA files."""
