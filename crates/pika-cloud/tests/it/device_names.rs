use pika_cloud::RuntimeMountKind;
use pika_cloud::incus::mount_device_name;
use serde::Deserialize;

#[derive(Deserialize)]
struct Vector {
    kind: RuntimeMountKind,
    source: String,
    guest_path: String,
    device_name: String,
}

#[test]
fn device_names_are_those_of_the_vectors() {
    let text = include_str!("../vectors/device-names.json");
    let vectors: Vec<Vector> = serde_json::from_str(text).unwrap();
    assert_eq!(vectors.len(), 8);
    for vector in vectors {
        let name = mount_device_name(vector.kind, &vector.source, &vector.guest_path);
        assert_eq!(
            name, vector.device_name,
            "{} at {}",
            vector.source, vector.guest_path
        );
    }
}
