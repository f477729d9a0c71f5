"""MySQL and MariaDB through MySQL Connector/Python."""
