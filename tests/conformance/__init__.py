"""The Autobahn|Testsuite as a conformance suite for Pinghub; see docs/conformance.md."""
