"""The shelf of tools: what a judge may call to find something out, instead of believing it."""
