"""Configuration: the option table, and settings from keywords, URL and environment."""
