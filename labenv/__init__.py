"""A simulated site for TR-4004: a storage cluster and Hyper-V hosts that answer their real wires on loopback.

``start`` begins a lab that ends with this process; the command ``labenv`` steers one that stays.
"""

from labenv.lab import start

__all__ = ["start"]
