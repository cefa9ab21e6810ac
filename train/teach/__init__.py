"""Engines that know things by name: networks taught by public ones (extra `train`)."""
