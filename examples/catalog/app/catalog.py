"""Counts the products of the catalog, and keeps the number where the service may write."""

import os
import sys
import time

here = os.path.dirname(os.path.abspath(__file__))
products = sum(name.endswith(".py") for _, _, names in os.walk(os.path.join(here, "products")) for name in names)
with open(os.path.join(sys.argv[1], "products"), "w") as file:
    file.write(f"{products}\n")
while True:
    time.sleep(3600)
