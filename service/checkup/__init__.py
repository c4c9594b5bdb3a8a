"""What `clickserve doctor` looks at: the machine, the online store, the models. Each check answers one finding."""
