"""Pictures of maps, curves and tables with their caption and numbers; one module per kind."""
