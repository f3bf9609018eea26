//! Pod templates of workloads, live. What a changed one means is decided elsewhere.

use futures::{StreamExt, stream::BoxStream};
use kube::api::DynamicObject;
use serde_json::Value;
use sha2::{Digest, Sha256};
use sluice_wire::policy::Workload;

use crate::kubernetes::object::Object;
use crate::workload::controller::Controller;
use crate::workload::promotion::images;
use crate::{Clients, TargetError};

/// What a workload would run now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// `deployment shop/checkout-canary`
    pub workload: String,
    /// Of its containers, sorted by name.
    pub images: Vec<String>,
    /// Told apart by everything that stands in the template, a restart's time included.
    pub whole: String,
}

impl Template {
    fn of(workload: String, object: &DynamicObject) -> Template {
        Template { workload, images: images(object), whole: sum(&object.data["spec"]["template"]) }
    }

    /// Told apart by the images alone.
    pub fn of_images(&self) -> String {
        sum(&Value::from(self.images.clone()))
    }

    /// For people: `checkout:v2`, or several.
    pub fn version(&self) -> String {
        let short = self.images.iter().map(|image| image.rsplit('/').next().unwrap_or(image));
        short.collect::<Vec<_>>().join(", ")
    }
}

/// The workload's template on every change; `None` while there is no such workload. Errors while it cannot be seen. Endless.
/// Nothing for a workload that stands in no cluster.
pub async fn watch_template(
    workload: &Workload,
    namespace: &str,
    clients: &Clients,
) -> Result<Option<BoxStream<'static, Result<Option<Template>, TargetError>>>, TargetError> {
    let Some((controller, name)) = Controller::of(workload) else { return Ok(None) };
    let object = Object::connect(clients, controller.kind(), namespace, name).await?;
    let title = object.place.title();
    let states = object
        .watch()
        .map(move |state| state.map(|state| state.map(|object| Template::of(title.clone(), &object))));
    Ok(Some(states.boxed()))
}

/// 32 hexadecimal digits of the SHA-256 of the JSON, whose keys are sorted.
fn sum(value: &Value) -> String {
    Sha256::digest(value.to_string().as_bytes()).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template(image: &str, restarted: &str, replicas: u32) -> Template {
        let object = serde_json::from_value(json!({"metadata": {"name": "checkout"}, "spec": {
            "replicas": replicas,
            "template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": restarted}},
                "spec": {"containers": [{"name": "shop", "image": image}, {"name": "proxy", "image": "registry.example:5000/proxy"}]}}}}));
        Template::of("deployment shop/checkout".into(), &object.unwrap())
    }

    #[test]
    fn a_restart_is_another_template_with_the_same_images_and_a_size_is_neither() {
        let before = template("registry.example/checkout:v1", "1", 1);
        let restarted = template("registry.example/checkout:v1", "2", 1);
        assert_eq!(before.of_images(), restarted.of_images());
        assert_ne!(before.whole, restarted.whole);
        assert_eq!(before, template("registry.example/checkout:v1", "1", 5));
        let next = template("registry.example/checkout:v2", "1", 1);
        assert!(next.of_images() != before.of_images() && next.whole != before.whole);
        assert_eq!(next.version(), "checkout:v2, proxy");
    }
}
