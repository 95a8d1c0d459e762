"""Two sites: replication, failover, failback, rehearsal (TR 8)."""
