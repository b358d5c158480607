"""What a cluster's scheduler is asked, and what it answers; nothing of a vendor is known outside this package."""
