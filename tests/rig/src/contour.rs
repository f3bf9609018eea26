pub struct Contour;
pub struct ContourOptions;
