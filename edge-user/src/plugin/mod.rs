//! Plugins: one closed enum, run by descending PRIORITY. One file per plugin, named as in the configuration.
