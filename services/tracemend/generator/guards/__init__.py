"""Guard plug-ins: one module each, found by `generator.guarding.guards`."""
