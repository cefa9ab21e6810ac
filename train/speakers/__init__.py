"""Whether a face speaks: what looks at one beside what it says (extra `train`)."""
