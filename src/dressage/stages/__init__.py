"""The four stages: records in, records out; the reading and writing of a run is here."""
