//! A table whose keys are small and reused, so that they fit into an epoll token.

pub struct Slab<T>(Vec<Option<T>>);

impl<T> Slab<T> {
    pub fn new() -> Self {
        Self(Vec::new())
    }

    pub fn insert(&mut self, value: T) -> usize {
        match self.0.iter().position(Option::is_none) {
            Some(free) => {
                self.0[free] = Some(value);
                free
            }
            None => {
                self.0.push(Some(value));
                self.0.len() - 1
            }
        }
    }

    pub fn get(&self, key: usize) -> Option<&T> {
        self.0.get(key)?.as_ref()
    }

    pub fn get_mut(&mut self, key: usize) -> Option<&mut T> {
        self.0.get_mut(key)?.as_mut()
    }

    pub fn remove(&mut self, key: usize) -> Option<T> {
        self.0.get_mut(key)?.take()
    }

    pub fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.0.iter().enumerate().filter_map(|(key, value)| Some((key, value.as_ref()?)))
    }

    pub fn keys(&self) -> Vec<usize> {
        self.iter().map(|(key, _)| key).collect()
    }
}
