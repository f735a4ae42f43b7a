//! Google Cloud without Google: our programs' real clients against fakes that misbehave, over real sockets.

mod metadata;
