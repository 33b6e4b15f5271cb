//! A document before it has a form: what a file says, and not yet how.

/// A value of a document.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    /// A scalar that is written just so, without quotes: a number, a boolean, null.
    Raw(String),
    /// A text.
    Text(String),
    List(Vec<Tree>),
    /// A key can be there twice.
    Map(Vec<(String, Tree)>),
}

impl Tree {
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub fn raw(text: impl Into<String>) -> Self {
        Self::Raw(text.into())
    }

    pub fn texts(texts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::List(texts.into_iter().map(Self::text).collect())
    }

    pub fn map(entries: impl IntoIterator<Item = (impl Into<String>, Self)>) -> Self {
        Self::Map(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
    }

    /// Gives one of Istio's resources another namespace and name. Says whether it is one.
    pub fn named(&mut self, namespace: &str, name: &str) -> bool {
        let Self::Map(entries) = self else { return false };
        let is_istio = |(key, value): &(String, Self)| {
            key == "apiVersion" && matches!(value, Self::Text(version) if version.starts_with("security.istio.io/"))
        };
        if !entries.iter().any(is_istio) {
            return false;
        }
        let metadata = entries.iter_mut().find(|(key, _)| key == "metadata");
        if let Some((_, Self::Map(fields))) = metadata {
            fields.retain(|(key, _)| {
                !["namespace", "name", "finalizers", "ownerReferences", "resourceVersion", "uid"]
                    .contains(&key.as_str())
            });
            fields.push(("name".to_owned(), Self::text(name)));
            fields.push(("namespace".to_owned(), Self::text(namespace)));
        }
        true
    }

    /// The number of values in it, with itself.
    pub fn size(&self) -> usize {
        1 + match self {
            Self::Raw(_) | Self::Text(_) => 0,
            Self::List(items) => items.iter().map(Self::size).sum(),
            Self::Map(entries) => entries.iter().map(|(_, value)| value.size()).sum(),
        }
    }

    /// The value with this number. A value has a lower number than those in it.
    pub fn at(&mut self, number: usize) -> Option<&mut Self> {
        if number == 0 {
            return Some(self);
        }
        let mut number = number - 1;
        let children: Vec<&mut Self> = match self {
            Self::Raw(_) | Self::Text(_) => Vec::new(),
            Self::List(items) => items.iter_mut().collect(),
            Self::Map(entries) => entries.iter_mut().map(|(_, value)| value).collect(),
        };
        for child in children {
            let size = child.size();
            if number < size {
                return child.at(number);
            }
            number -= size;
        }
        None
    }
}
