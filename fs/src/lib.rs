//! bkfs fs
