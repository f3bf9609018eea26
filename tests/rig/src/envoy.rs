pub struct Envoy;
