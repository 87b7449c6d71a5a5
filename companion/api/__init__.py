"""The HTTP door: shapes and routes, one file per noun."""
