"""How much a judge can be trusted and how it can be bought: labelled pairs and a red-team corpus → a judge card."""
