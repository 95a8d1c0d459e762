"""The advisor: what TR-4004 recommends, warns of and limits, held against what a site really is."""
