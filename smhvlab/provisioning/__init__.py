"""Provisioning (TR 2.2 and the appendix): storage, disks, a golden VM, and VMs made from it."""
