"""Who speaks: heads are followed, and their lips held against the voice."""
