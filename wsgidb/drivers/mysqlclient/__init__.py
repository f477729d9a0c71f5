"""MySQL and MariaDB through mysqlclient."""
