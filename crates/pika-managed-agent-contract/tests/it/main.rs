//! Tests of the agent API's contract: every row of its tables is a case.

mod observation;
mod params;
mod request;
mod words;
