"""Configuration: the option table, and how settings are read from keywords, URL and environment."""
