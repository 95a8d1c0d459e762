"""The failover cluster that the hosts of a topology can form."""
