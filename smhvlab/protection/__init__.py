"""Protection management: hosts, policies, schedules, retention, reports (TR 4, 5, 6.1, 6.3 to 6.5)."""
