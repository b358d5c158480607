"""What came of a campaign: one offline page, a JSON file, CIFs of the hits, exports and a table for the terminal."""
