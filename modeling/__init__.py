"""ConvLSTM autoencoders of emission-line windows: training, search, scoring."""
