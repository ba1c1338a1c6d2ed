//! Certificates: how a node proves which node of which cluster it is.
//!
//! Each cluster has an authority of its own, made by `vedette init` and trusted by nobody else.
//! Who a peer is, is read from its verified certificate and never from what it says: the names in
//! it are `node-<number>.<cluster id>.vedette` and `storage-<storage id>.<cluster id>.vedette`.
//! The second binds the certificate to one storage, so that a node that was deleted cannot come
//! back in the place of its successor with the same number.
//!
//! Every member holds the authority's key. That lets any member admit a node and renew its own
//! certificate, with no server a failover could need; the price is that whoever gets root on one
//! member can impersonate all, which on a cluster whose nodes run each other's commands is no new
//! power.
//!
//! TLS 1.3 only, and no resumption: every connection verifies both certificates again, so an
//! expired one is noticed at the next connection.

use std::io;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError,
    RootCertStore, ServerConfig, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use time::OffsetDateTime;
use vedette_core::id::{ClusterId, Hash, NodeNumber, StorageId};
use vedette_core::time::WallTime;
use x509_parser::extensions::GeneralName;

use crate::identity::Membership;

/// How long an authority is valid.
pub const CA_LIFETIME: Duration = Duration::from_secs(3_650 * 86_400);
/// How long a node's certificate is valid.
pub const NODE_LIFETIME: Duration = Duration::from_secs(730 * 86_400);
/// A certificate is valid from this long before it was made, for clocks that are behind.
const EARLIER: Duration = Duration::from_secs(86_400);

/// Why a key or certificate cannot be used: what is wrong, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A key or certificate cannot be read.
    #[error(
        "the {what} cannot be used: {why}. Restore the state directory from a backup, or delete \
         this node and add it again."
    )]
    Damaged {
        /// Which, such as `certificate of this node`.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A joining node's request for a certificate cannot be granted.
    #[error("the certificate request cannot be granted: {0}. Use the same version of vedette.")]
    Request(String),
    /// A certificate does not say which node it is for.
    #[error("the certificate is not one of a node of this cluster: {0}. See who connects.")]
    NotOurs(String),
    /// A key or certificate could not be made.
    #[error("a key or certificate could not be made: {0}. Check the system's clock.")]
    Make(String),
}

/// Which node a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertifiedNode {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node's number.
    pub number: NodeNumber,
    /// The node's storage.
    pub storage: StorageId,
}

impl CertifiedNode {
    fn names(&self) -> [String; 2] {
        [node_host(self.cluster, self.number), storage_host(self.cluster, self.storage)]
    }
}

fn node_host(cluster: ClusterId, number: NodeNumber) -> String {
    format!("node-{number}.{cluster}.vedette")
}

fn storage_host(cluster: ClusterId, storage: StorageId) -> String {
    format!("storage-{storage}.{cluster}.vedette")
}

/// The name by which a client addresses a node in TLS.
///
/// # Errors
/// Never for a number and a cluster that print as they should.
pub fn server_name(
    cluster: ClusterId,
    number: NodeNumber,
) -> Result<ServerName<'static>, PkiError> {
    ServerName::try_from(node_host(cluster, number)).map_err(|e| PkiError::Make(e.to_string()))
}

/// A cluster's certificate authority.
#[derive(Debug)]
pub struct Authority {
    cert_pem: String,
    cert: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new authority, valid for [`CA_LIFETIME`].
    ///
    /// # Errors
    /// `now` is a time that certificates cannot express.
    pub fn generate(
        cluster: ClusterId,
        cluster_name: &str,
        now: WallTime,
    ) -> Result<Self, PkiError> {
        let key = KeyPair::generate().map_err(make)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(&format!("{cluster_name} cluster authority"));
        params.distinguished_name.push(DnType::OrganizationName, cluster.to_string());
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        set_validity(&mut params, now, CA_LIFETIME)?;
        let cert = params.self_signed(&key).map_err(make)?;
        let (cert_pem, cert) = (cert.pem(), cert.der().clone());
        Ok(Self { cert_pem, cert, issuer: Issuer::new(params, key) })
    }

    /// The authority with that certificate and key.
    ///
    /// # Errors
    /// They cannot be read, or do not belong together.
    pub fn from_pem(cert_pem: &str, key_pem: &str) -> Result<Self, PkiError> {
        let damaged =
            |what| move |why: rcgen::Error| PkiError::Damaged { what, why: why.to_string() };
        let cert = parse_certificate(cert_pem, "certificate of the cluster's authority")?;
        let key = KeyPair::from_pem(key_pem).map_err(damaged("key of the cluster's authority"))?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&cert).map_err(not_ours)?;
        if *parsed.public_key().subject_public_key.data != *key.public_key_raw() {
            return Err(PkiError::Damaged {
                what: "key of the cluster's authority",
                why: "it does not belong to the authority's certificate".into(),
            });
        }
        let issuer = Issuer::from_ca_cert_der(&cert, key)
            .map_err(damaged("certificate of the cluster's authority"))?;
        Ok(Self { cert_pem: cert_pem.to_owned(), cert, issuer })
    }

    /// Its certificate, PEM.
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// Its key, PEM.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// SHA-256 of its certificate, by which a join token pins it.
    pub fn fingerprint(&self) -> Hash {
        Hash::of(&self.cert)
    }

    /// A certificate for the node that made `request` (PEM), valid for [`NODE_LIFETIME`]. Only the
    /// public key is taken from the request, and only after its signature shows that the key is
    /// the requester's; what the certificate says is decided here.
    ///
    /// # Errors
    /// The request cannot be read or is not signed by its own key.
    pub fn certify(
        &self,
        node: CertifiedNode,
        name: &str,
        request: &str,
        now: WallTime,
    ) -> Result<String, PkiError> {
        let request = CertificateSigningRequestParams::from_pem(request)
            .map_err(|why| PkiError::Request(why.to_string()))?;
        let params = node_params(node, name, now)?;
        params.signed_by(&request.public_key, &self.issuer).map(|c| c.pem()).map_err(make)
    }

    /// A renewed certificate for a node whose key is at hand, as for this node itself.
    ///
    /// # Errors
    /// The key cannot be read.
    pub fn renew(
        &self,
        node: CertifiedNode,
        name: &str,
        node_key: &str,
        now: WallTime,
    ) -> Result<String, PkiError> {
        self.certify(node, name, &request(node_key)?, now)
    }
}

/// A new key for a node, PEM.
///
/// # Errors
/// The system has no randomness.
pub fn generate_key() -> Result<String, PkiError> {
    KeyPair::generate().map(|key| key.serialize_pem()).map_err(make)
}

/// A request for a certificate for the key (PEM), signed with it.
///
/// # Errors
/// The key cannot be read.
pub fn request(key_pem: &str) -> Result<String, PkiError> {
    let key = KeyPair::from_pem(key_pem).map_err(make)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name("joining node");
    params.serialize_request(&key).and_then(|csr| csr.pem()).map_err(make)
}

/// Which node a certificate is for. Meaningful only once its signature has been verified.
///
/// # Errors
/// It does not name one node and one storage of one cluster.
pub fn certified_node(cert: &CertificateDer<'_>) -> Result<CertifiedNode, PkiError> {
    let (_, parsed) = x509_parser::parse_x509_certificate(cert).map_err(not_ours)?;
    let names = parsed.subject_alternative_name().map_err(not_ours)?;
    let names: Vec<&str> = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| if let GeneralName::DNSName(name) = name { Some(*name) } else { None })
        .collect();
    let unnamed = || PkiError::NotOurs(format!("it is for {names:?}"));
    let [node, storage] = names.as_slice() else { return Err(unnamed()) };
    let (number, cluster) = split_host(node, "node-").ok_or_else(unnamed)?;
    let (storage, storage_cluster) = split_host(storage, "storage-").ok_or_else(unnamed)?;
    let number = number.parse().ok().and_then(NodeNumber::new).ok_or_else(unnamed)?;
    let storage = storage.parse().map_err(|_| unnamed())?;
    let cluster = cluster.parse().map_err(|_| unnamed())?;
    if storage_cluster.parse() != Ok(cluster) {
        return Err(unnamed());
    }
    Ok(CertifiedNode { cluster, number, storage })
}

/// `<what>.<cluster>.vedette`, without the prefix: what and cluster.
fn split_host<'a>(host: &'a str, prefix: &str) -> Option<(&'a str, &'a str)> {
    host.strip_prefix(prefix)?.strip_suffix(".vedette")?.split_once('.')
}

/// Until when a certificate (PEM) is valid.
///
/// # Errors
/// It cannot be read.
pub fn valid_until(cert_pem: &str) -> Result<WallTime, PkiError> {
    let cert = parse_certificate(cert_pem, "certificate of this node")?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&cert).map_err(not_ours)?;
    Ok(WallTime(parsed.validity().not_after.timestamp().saturating_mul(1_000_000)))
}

/// Whether a certificate (PEM) should be renewed: less than a third of its life is left.
///
/// # Errors
/// It cannot be read.
pub fn renewal_due(cert_pem: &str, now: WallTime) -> Result<bool, PkiError> {
    Ok(now.plus(NODE_LIFETIME / 3) >= valid_until(cert_pem)?)
}

fn node_params(
    node: CertifiedNode,
    name: &str,
    now: WallTime,
) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::new(node.names()).map_err(make)?;
    params.distinguished_name = common_name(name);
    params.serial_number = Some(SerialNumber::from(rand::random::<[u8; 16]>().to_vec()));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, now, NODE_LIFETIME)?;
    Ok(params)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn set_validity(
    params: &mut CertificateParams,
    now: WallTime,
    lifetime: Duration,
) -> Result<(), PkiError> {
    let at = |time: WallTime| {
        OffsetDateTime::from_unix_timestamp(time.unix_seconds())
            .map_err(|why| PkiError::Make(why.to_string()))
    };
    let earlier = i64::try_from(EARLIER.as_micros()).unwrap_or(0);
    params.not_before = at(WallTime(now.0.saturating_sub(earlier)))?;
    params.not_after = at(now.plus(lifetime))?;
    Ok(())
}

fn make(why: rcgen::Error) -> PkiError {
    PkiError::Make(why.to_string())
}

fn not_ours(why: impl ToString) -> PkiError {
    PkiError::NotOurs(why.to_string())
}

fn parse_certificate(pem: &str, what: &'static str) -> Result<CertificateDer<'static>, PkiError> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|why| PkiError::Damaged { what, why: why.to_string() })
}

/// The two sides of TLS as one node speaks it. Cheap to clone; a renewed certificate takes effect
/// with the next connection.
#[derive(Clone, Debug)]
pub struct Tls {
    own: CertifiedNode,
    configs: Arc<RwLock<(Arc<ServerConfig>, Arc<ClientConfig>)>>,
}

impl Tls {
    /// TLS with the keys of a member.
    ///
    /// # Errors
    /// A key or certificate cannot be used, or the certificate is another node's than the
    /// identity says (spec V14).
    pub fn new(member: &Membership) -> Result<Self, PkiError> {
        let own = CertifiedNode {
            cluster: member.identity.cluster,
            number: member.identity.number,
            storage: member.identity.storage,
        };
        let configs = Arc::new(RwLock::new(configs(member, own)?));
        Ok(Self { own, configs })
    }

    /// Takes a renewed certificate into use.
    ///
    /// # Errors
    /// As [`Tls::new`]; the old certificate then stays in use.
    pub fn replace(&self, member: &Membership) -> Result<(), PkiError> {
        let renewed = configs(member, self.own)?;
        *self.configs.write().unwrap_or_else(std::sync::PoisonError::into_inner) = renewed;
        Ok(())
    }

    /// Which node this is.
    pub fn own(&self) -> CertifiedNode {
        self.own
    }

    /// For connections that others open. A client without a certificate gets through TLS, so that
    /// it can ask to join; one with a certificate must have a valid one of this cluster.
    pub fn server(&self) -> Arc<ServerConfig> {
        self.configs.read().unwrap_or_else(std::sync::PoisonError::into_inner).0.clone()
    }

    /// For connections to others.
    pub fn client(&self) -> Arc<ClientConfig> {
        self.configs.read().unwrap_or_else(std::sync::PoisonError::into_inner).1.clone()
    }
}

fn configs(
    member: &Membership,
    own: CertifiedNode,
) -> Result<(Arc<ServerConfig>, Arc<ClientConfig>), PkiError> {
    let ca = parse_certificate(&member.ca_cert, "certificate of the cluster's authority")?;
    let cert = parse_certificate(&member.node_cert, "certificate of this node")?;
    let certified = certified_node(&cert)?;
    let damaged = |what, why: String| PkiError::Damaged { what, why };
    if certified != own {
        return Err(damaged(
            "certificate of this node",
            format!(
                "it is for node {} with storage {} of cluster {}, and identity.json says node {} \
                 with storage {} of cluster {}",
                certified.number,
                certified.storage,
                certified.cluster,
                own.number,
                own.storage,
                own.cluster
            ),
        ));
    }
    let key = PrivateKeyDer::from_pem_slice(member.node_key.as_bytes())
        .map_err(|why| damaged("key of this node", why.to_string()))?;
    let roots = Arc::new(roots(&ca)?);
    let chain = vec![cert, ca];
    let server = server_config(roots.clone(), chain.clone(), key.clone_key());
    let client = client_config(roots, chain, key);
    match (server, client) {
        (Ok(server), Ok(client)) => Ok((Arc::new(server), Arc::new(client))),
        (Err(why), _) | (_, Err(why)) => Err(damaged("key of this node", why.to_string())),
    }
}

fn roots(ca: &CertificateDer<'static>) -> Result<RootCertStore, PkiError> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone()).map_err(|why| PkiError::Damaged {
        what: "certificate of the cluster's authority",
        why: why.to_string(),
    })?;
    Ok(roots)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn server_config(
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, TlsError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
        .allow_unauthenticated()
        .build()
        .map_err(|why| TlsError::General(why.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn client_config(
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// TLS for a node that is not a member yet: it has no certificate, and knows of the cluster's
/// authority only the fingerprint in its token.
///
/// # Errors
/// Never with the cryptography that is built in.
pub fn joining_client(fingerprint: Hash) -> Result<ClientConfig, PkiError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|why| PkiError::Make(why.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedAuthority {
            fingerprint,
            provider: provider(),
        }))
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// Trusts the authority that the server sends along, if it is the one with the known fingerprint,
/// and then whatever that authority has signed. Names are not compared: any member may answer.
#[derive(Debug)]
struct PinnedAuthority {
    fingerprint: Hash,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let pinned = intermediates.iter().find(|cert| Hash::of(cert) == self.fingerprint);
        let Some(pinned) = pinned else {
            return Err(TlsError::InvalidCertificate(CertificateError::UnknownIssuer));
        };
        let mut roots = RootCertStore::empty();
        roots.add(pinned.clone().into_owned())?;
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &roots,
            &[],
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        certified_node(end_entity)
            .map_err(|_| TlsError::InvalidCertificate(CertificateError::UnknownIssuer))?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(TlsError::General("TLS 1.2 is not spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Why a connection failed, in words: TLS reasons are found inside of the error.
pub fn explain(error: &io::Error) -> String {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
    let Some(tls) = tls else { return error.to_string() };
    match tls {
        TlsError::InvalidCertificate(why) => explain_certificate(why),
        TlsError::AlertReceived(AlertDescription::UnknownCA | AlertDescription::DecryptError) => {
            "the peer does not know our authority: it belongs to another cluster".into()
        }
        TlsError::AlertReceived(AlertDescription::CertificateExpired) => {
            "the peer says that our certificate has expired or is not valid yet: renew it, and \
             compare the clocks"
                .into()
        }
        TlsError::AlertReceived(alert) => format!("the peer ended TLS ({alert:?})"),
        other => other.to_string(),
    }
}

fn explain_certificate(why: &CertificateError) -> String {
    match why {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate is not from this cluster's authority: it belongs to another cluster"
                .into()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired: renew it, and compare the clocks".into()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet: compare the clocks".into()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is another node's: compare the addresses".into()
        }
        other => format!("its certificate is refused ({other:?})"),
    }
}
