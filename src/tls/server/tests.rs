use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// A folder for a certificate and its key.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("sockets-tls-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = Self(std::env::temp_dir().join(name));
        fs::create_dir_all(&folder.0).unwrap();
        folder
    }

    fn files(&self) -> Files {
        Files { certificate: self.0.join("cert.pem"), key: self.0.join("key.pem"), client_authority: None }
    }

    fn write(&self, certificate: &str, key: &str) {
        fs::write(self.0.join("cert.pem"), certificate).unwrap();
        fs::write(self.0.join("key.pem"), key).unwrap();
    }

    /// What is said when the files are loaded, without the folder's name.
    fn complaint(&self) -> String {
        let error = Identity::load(self.files(), Instant::now()).unwrap_err();
        error.to_string().replace(&format!("{}/", self.0.display()), "")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

/// A certificate and its key, in PEM.
fn pair() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let encode = |label: &str, der: &[u8]| {
        use rustls::pki_types::pem::PemObject;
        let bytes = data(der);
        let text = format!("-----BEGIN {label}-----\n{bytes}\n-----END {label}-----\n");
        assert!(label != "CERTIFICATE" || CertificateDer::from_pem_slice(text.as_bytes()).is_ok());
        text
    };
    (encode("CERTIFICATE", made.cert.der()), encode("PRIVATE KEY", &made.signing_key.serialize_der()))
}

/// Base64 (RFC 4648).
fn data(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |bits: u32, at: u32| char::from(DIGITS[(bits >> (18 - 6 * at)) as usize & 63]);
    let group = |group: &[u8]| {
        let bits = (0..3).fold(0, |bits, at| bits << 8 | u32::from(group.get(at).copied().unwrap_or(0)));
        let digits = (0..4).map(|at| if at as usize <= group.len() { digit(bits, at) } else { '=' });
        digits.collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

#[test]
fn what_is_wrong_with_the_files_is_said_in_a_sentence() {
    let folder = Folder::new();
    assert_eq!(folder.complaint(), "cannot read the certificate cert.pem: No such file or directory");
    let ((first, first_key), (second, second_key)) = (pair(), pair());
    folder.write(&first, &second_key);
    assert_eq!(folder.complaint(), "cannot use the key key.pem: it does not belong to the certificate cert.pem");
    folder.write("", &first_key);
    assert_eq!(folder.complaint(), "cannot use the certificate cert.pem: there is no PEM certificate in it");
    folder.write(&second, &second);
    assert_eq!(folder.complaint(), "cannot use the key key.pem: there is no PEM private key in it");
    folder.write(&second, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    assert_eq!(
        folder.complaint(),
        "cannot use the key key.pem: it is encrypted (decrypt it with: openssl pkey -in key.pem)"
    );
    folder.write("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &first_key);
    assert_eq!(
        folder.complaint(),
        "cannot use the certificate cert.pem: the certificate was not accepted: it is damaged"
    );
    folder.write(&format!("{first}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), &first_key);
    assert!(folder.complaint().ends_with("it is damaged"));
    folder.write(&first, &first_key);
    assert!(Identity::load(folder.files(), Instant::now()).is_ok());
    let files = Files { client_authority: Some(folder.0.join("key.pem")), ..folder.files() };
    let error = Identity::load(files, Instant::now()).unwrap_err().to_string();
    assert!(error.starts_with("cannot use the client authority "), "{error}");
    assert!(error.ends_with("there is no PEM certificate in it"), "{error}");
}

/// Lets a minute pass, and takes what was read.
fn renew(identity: &mut Identity, now: &mut Instant) -> Result<bool, String> {
    *now += RENEWAL;
    assert_eq!(identity.deadline(), Some(*now));
    assert!(!identity.renew(*now).unwrap(), "the files are not read yet");
    while identity.reading.is_some() {
        *now = identity.deadline().unwrap();
        match identity.renew(*now) {
            Ok(false) => thread::yield_now(),
            outcome => return outcome.map_err(|error| error.to_string()),
        }
    }
    Ok(false)
}

#[test]
fn new_files_are_loaded_and_bad_ones_are_reported_once() {
    let folder = Folder::new();
    let ((first, first_key), (second, second_key)) = (pair(), pair());
    folder.write(&first, &first_key);
    let mut now = Instant::now();
    let mut identity = Identity::load(folder.files(), now).unwrap();
    let old = identity.config();
    folder.write(&second, &second_key);
    assert!(!identity.renew(now).unwrap() && identity.reading.is_none(), "it is not time yet");
    assert!(renew(&mut identity, &mut now).unwrap());
    let new = identity.config();
    assert!(!Arc::ptr_eq(&old, &new));

    let mut renew = || renew(&mut identity, &mut now);
    assert_eq!(renew(), Ok(false), "nothing has changed");
    folder.write(&first, &second_key);
    assert!(renew().unwrap_err().contains("does not belong to"));
    assert_eq!(renew(), Ok(false), "it was said already");
    fs::remove_file(folder.0.join("key.pem")).unwrap();
    assert!(renew().unwrap_err().contains("No such file"));
    assert_eq!(renew(), Ok(false), "it was said already");
    folder.write(&first, &first_key);
    assert_eq!(renew(), Ok(true));
    assert!(!Arc::ptr_eq(&new, &identity.config()));
}

#[test]
fn a_file_system_that_does_not_answer_is_not_waited_for() {
    let folder = Folder::new();
    let ((certificate, key), (other, other_key)) = (pair(), pair());
    folder.write(&certificate, &key);
    let mut now = Instant::now();
    let mut identity = Identity::load(folder.files(), now).unwrap();
    let (sender, receiver) = mpsc::sync_channel(1);
    now += RENEWAL;
    (identity.reading, identity.look_at) = (Some((now, receiver)), Some(now + READING));
    for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
        now = identity.deadline().unwrap();
        assert!(!identity.renew(now).unwrap());
        assert_eq!(identity.deadline(), Some(now + Duration::from_secs(seconds)));
    }
    // It is there again, with another certificate.
    folder.write(&other, &other_key);
    sender.send(identity.files.as_ref().unwrap().read(pem::read_file)).unwrap();
    now = identity.deadline().unwrap();
    assert!(identity.renew(now).unwrap() && identity.reading.is_none());
    assert_eq!(identity.deadline(), Some(now + RENEWAL));
}

#[test]
fn a_byte_order_mark_does_no_harm() {
    let folder = Folder::new();
    let (certificate, key) = pair();
    folder.write(&format!("\u{feff}{certificate}"), &format!("\u{feff}{key}"));
    assert!(Identity::load(folder.files(), Instant::now()).is_ok());
}

#[test]
fn a_self_signed_certificate_has_the_names_of_this_machine() {
    let addresses = ["192.0.2.1".parse().unwrap(), "::1".parse().unwrap()];
    let (identity, certificate) = Identity::self_signed(addresses, None).unwrap();
    assert_eq!(identity.deadline(), None);
    let digits = super::super::fingerprint(&certificate);
    assert!(digits.len() == 64 && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')), "{digits}");
    let parsed = webpki_names(&certificate);
    for name in ["localhost", "192.0.2.1", "::1"] {
        assert!(parsed(name), "{name}");
    }
    assert!(!parsed("example.org"));
}

/// Tells for which names a certificate is good.
fn webpki_names(certificate: &CertificateDer<'static>) -> impl Fn(&str) -> bool {
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::{ServerName, UnixTime};

    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build().unwrap();
    let certificate = certificate.clone();
    move |name: &str| {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        verifier.verify_server_cert(&certificate, &[], &name, &[], UnixTime::now()).is_ok()
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_pipe_is_not_waited_for() {
    let folder = Folder::new();
    let (certificate, key) = pair();
    folder.write(&certificate, &key);
    let mut now = Instant::now();
    let mut identity = Identity::load(folder.files(), now).unwrap();
    let path = folder.0.join("cert.pem");
    fs::remove_file(&path).unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let error = renew(&mut identity, &mut now).unwrap_err();
    assert!(error.ends_with("cert.pem: it is not a regular file"), "{error}");
    fs::remove_file(&path).unwrap();
    fs::write(&path, &certificate).unwrap();
    assert!(!renew(&mut identity, &mut now).unwrap(), "it is the one that is in use");
}
