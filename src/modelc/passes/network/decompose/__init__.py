"""How operators that HTP's provider refuses, or computes wrongly, are made of others."""
