"""Train an expanded network, deploy the plain one."""
