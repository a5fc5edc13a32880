#![doc = include_str!("../README.md")]
//! The code of the project's page, compiled as a doc test.
