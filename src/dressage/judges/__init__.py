"""The shelf of judges: a kind says what to ask about a ballot, and how to read what comes back."""
