"""Models between configuration and catalog: opened, trained, resumed, run over a survey."""
