"""A simulated site for TR-4004: a storage cluster and Hyper-V hosts that answer their real wires on loopback."""
