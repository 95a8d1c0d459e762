"""Named causes of trouble: what an administrator, a controller or chance does to a site, and how it is mended."""
