//! The cluster's certificate authority and the certificates that it signs.

use std::fs;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// The first address of the service network, where Kubernetes expects its own API server.
const SERVICE_ADDRESS: &str = "10.96.0.1";

/// Writes whatever is missing: `ca`, `apiserver`, `kubelet`, those of the other components, `admin` (elliptic
/// curve), `admin-rsa` (RSA, 2,048 bits), `expired` (an administrator's that tests are refused with) and the service accounts'
/// signing key. A file `done` at the end makes an interrupted call start over.
pub(crate) fn ensure(folder: &Path, node: &str, address: Ipv4Addr) -> Result<()> {
    let done = folder.join("done");
    if done.exists() {
        return Ok(());
    }
    fs::create_dir_all(folder).with_context(|| format!("failed to create `{}`", folder.display()))?;

    let mut authority = parameters("podrun-cluster-ca", None, &[])?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    write(&folder.join("ca.crt"), &authority.pem())?;

    let address = address.to_string();
    let names = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "127.0.0.1",
        SERVICE_ADDRESS,
        &address,
    ];
    sign(
        folder,
        "apiserver",
        &parameters("kube-apiserver", None, &names)?,
        &authority,
        KeyPair::generate()?,
    )?;
    let user = format!("system:node:{node}");
    sign(
        folder,
        "kubelet",
        &parameters(&user, Some("system:nodes"), &[node, &address])?,
        &authority,
        KeyPair::generate()?,
    )?;
    for component in ["kube-controller-manager", "kube-scheduler"] {
        let user = format!("system:{component}");
        sign(
            folder,
            component,
            &parameters(&user, None, &[])?,
            &authority,
            KeyPair::generate()?,
        )?;
    }
    for (file, key) in [("admin", KeyPair::generate()?), ("admin-rsa", rsa()?)] {
        sign(
            folder,
            file,
            &parameters(file, Some("system:masters"), &[])?,
            &authority,
            key,
        )?;
    }
    let mut expired = parameters("admin", Some("system:masters"), &[])?;
    expired.not_after = rcgen::date_time_ymd(2025, 2, 1);
    sign(folder, "expired", &expired, &authority, KeyPair::generate()?)?;

    let accounts = KeyPair::generate()?;
    write(&folder.join("accounts.key"), &accounts.serialize_pem())?;
    write(&folder.join("accounts.pub"), &accounts.public_key_pem())?;
    write(&done, "")
}

/// A certificate for client and server alike; the names may be addresses.
fn parameters(common_name: &str, organization: Option<&str>, names: &[&str]) -> Result<CertificateParams> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut parameters = CertificateParams::new(names)?;
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, common_name);
    if let Some(organization) = organization {
        parameters
            .distinguished_name
            .push(DnType::OrganizationName, organization);
    }
    parameters.not_before = rcgen::date_time_ymd(2025, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(2049, 1, 1);
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    parameters.use_authority_key_identifier_extension = true;
    Ok(parameters)
}

fn sign(
    folder: &Path,
    name: &str,
    parameters: &CertificateParams,
    authority: &CertifiedIssuer<'_, KeyPair>,
    key: KeyPair,
) -> Result<()> {
    let certificate = parameters
        .signed_by(&key, authority)
        .with_context(|| format!("failed to sign the certificate `{name}`"))?;
    write(&folder.join(format!("{name}.crt")), &certificate.pem())?;
    write(&folder.join(format!("{name}.key")), &key.serialize_pem())
}

/// ring makes no RSA keys, so OpenSSL does.
fn rsa() -> Result<KeyPair> {
    let output = Command::new("openssl")
        .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"])
        .output()
        .context("failed to start `openssl` (package openssl)")?;
    if !output.status.success() {
        bail!(
            "`openssl genpkey` failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    KeyPair::from_pem(&String::from_utf8_lossy(&output.stdout)).context("failed to read the RSA key that OpenSSL made")
}

/// Keys are for the owner only.
fn write(path: &Path, text: &str) -> Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())
        .with_context(|| format!("failed to write `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn openssl(arguments: &[&str], folder: &Path) -> String {
        let output = Command::new("openssl")
            .args(arguments)
            .current_dir(folder)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    }

    #[test]
    fn every_certificate_is_signed_and_names_what_it_must() {
        let folder = tempfile::tempdir().unwrap();
        ensure(folder.path(), "node-a", Ipv4Addr::new(10, 176, 0, 1)).unwrap();
        for name in ["apiserver", "kubelet", "admin", "admin-rsa"] {
            let verdict = openssl(&["verify", "-CAfile", "ca.crt", &format!("{name}.crt")], folder.path());
            assert!(verdict.contains("OK"), "{verdict}");
        }
        let verdict = openssl(&["verify", "-CAfile", "ca.crt", "expired.crt"], folder.path());
        assert!(verdict.contains("certificate has expired"), "{verdict}");
        let server = openssl(&["x509", "-in", "apiserver.crt", "-noout", "-text"], folder.path());
        for name in [
            "DNS:localhost",
            "DNS:kubernetes.default.svc",
            "IP Address:127.0.0.1",
            "IP Address:10.176.0.1",
        ] {
            assert!(server.contains(name), "{name} is missing in {server}");
        }
        let rsa = openssl(&["x509", "-in", "admin-rsa.crt", "-noout", "-text"], folder.path());
        assert!(
            rsa.contains("rsaEncryption") && rsa.contains("2048 bit") && rsa.contains("system:masters"),
            "{rsa}"
        );
        let curve = openssl(&["x509", "-in", "admin.crt", "-noout", "-text"], folder.path());
        assert!(curve.contains("id-ecPublicKey"), "{curve}");
    }

    #[test]
    fn a_second_call_keeps_the_keys() {
        let folder = tempfile::tempdir().unwrap();
        ensure(folder.path(), "node-a", Ipv4Addr::LOCALHOST).unwrap();
        let key = fs::read(folder.path().join("ca.crt")).unwrap();
        ensure(folder.path(), "node-a", Ipv4Addr::LOCALHOST).unwrap();
        assert_eq!(fs::read(folder.path().join("ca.crt")).unwrap(), key);
    }
}
