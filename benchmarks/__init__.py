"""What Cubescout claims, measured: each module prints a table and ends with `name=value` lines."""
