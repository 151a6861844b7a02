"""The version of the package, where nothing needs to be imported or searched for to know it."""

VERSION = "0.1.0"
