//! bkfs transport
